"""Salesforce: its records read, scored and written back through the REST, Bulk 2.0 and composite APIs."""
