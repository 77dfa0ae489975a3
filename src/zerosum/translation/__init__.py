"""Images of images: trained and imported translators, on stills, folders and films."""
