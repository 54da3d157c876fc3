"""What people see while something takes its time."""
