"""Files in and out: tables, images, names, the stores of the work folder."""
