"""Downloads of many files: checked addresses, limited sizes and rates, interrupted files resumed, failures retried."""
