"""Reports on runs and studies: pages, tables, figures and data files."""
