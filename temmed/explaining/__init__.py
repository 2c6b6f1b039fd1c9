"""Why a model answers as it does: where in the images, and when."""
