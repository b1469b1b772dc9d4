"""Elements of pages as HTML: formatted numbers, colours, links, pictures."""
