"""The benefit of words beside images, as a judge of captions and the usual scores see it."""
