"""Where frames come from: stored examples and the user's functions over them."""
