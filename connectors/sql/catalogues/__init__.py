"""What each product's catalogue tells of tables, columns, types and rights."""
