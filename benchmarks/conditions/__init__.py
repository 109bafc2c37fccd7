"""What words add to images: a model told in words what it draws, and a judge of captions."""
