"""Medical images: their pixels, the patient they are of, and nothing else that they say."""
