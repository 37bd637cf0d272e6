"""What all boxes stand on: errors, parameters, provenance, where results lie, tables, statistics."""
