"""Teachers and students as they are loaded, trained, measured and written."""
