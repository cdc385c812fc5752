"""``gsco build``: from a folder of labelled images to a measured collaboration."""
