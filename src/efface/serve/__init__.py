"""To talk to a model: in the terminal and in the browser, base and erased beside each other."""
