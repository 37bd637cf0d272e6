"""What all boxes use: errors, parameters, provenance, the results folder, tables, statistics."""
