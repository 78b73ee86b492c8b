"""The report: from the records of run directories to one page. What it says is worked out here, how in `templates/`."""
