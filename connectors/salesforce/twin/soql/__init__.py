"""SOQL: text to a tree, and a tree to a query over the org's records."""
