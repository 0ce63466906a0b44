"""SQL databases over SQLAlchemy 2: SQLite, PostgreSQL, MariaDB."""
