"""What the demonstration needs besides the node: a small PACS and the page that shows the results."""
