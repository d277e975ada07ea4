"""The report on a study, or on any finished runs: tables, tests, figures, a page."""
