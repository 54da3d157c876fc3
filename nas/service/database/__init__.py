"""The service's database: opened, its tables, and how they are brought up to date."""
