"""Files fetched from the network politely: checked addresses, bounded sizes, resumed and retried."""
