"""What people and machines read of a validation: `report.html`, `junit.xml` and `report.json`."""
