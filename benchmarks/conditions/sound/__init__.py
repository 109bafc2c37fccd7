"""The benefit of sound beside images: digits that are spoken, drawn in a typeface."""
