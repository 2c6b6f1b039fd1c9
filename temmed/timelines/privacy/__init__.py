"""De-identification of sources and timeline folders, the search for identifiers that are left, and the access log."""
