"""Takes the place of a package that Jupyter's programs import and do not need.

To check international addresses (IRI), jsonschema imports rfc3987_syntax where it is installed. The
package builds a grammar at its import: 3 s in each process that reads or writes a notebook. No
notebook holds such an address. The Makefile puts this folder on PYTHONPATH.
"""

raise ImportError("rfc3987_syntax is left out; tools/quick_start says why")
