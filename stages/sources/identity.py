"""What made the embeddings of the sources that are known.

Embeddings of one length may be of different networks, or of one network with other weights, and
then have nothing in common: a model that was trained on the ones answers nonsense for the others.
"""

# The course's file: `keras.applications.MobileNet(weights="imagenet", include_top=False,
# input_shape=(224, 224, 3), alpha=1.0, pooling="max")`, on pictures that Keras's `load_img` read
# with `target_size=(224, 224)`, which takes the nearest pixel.
COURSE = {
    "network": "MobileNetV1 1.0 224",  # alpha 1.0, pictures of 224 x 224 pixels
    "weights": "Keras ImageNet",
    "layers": "last",
    "pooling": "max",
    "input": "224 x 224",
    "scaling": "x / 127.5 - 1",
    "resize": "nearest",
    "fit": "stretch",
    "orientation": "as stored",
}
# What the course's file calls the column of the embeddings.
COURSE_COLUMN = "MobileNetV1 features"
# By `download.source`. The simulator imitates the course's file, and nobody knows what made a
# file of the user's own.
KNOWN = {"mame": COURSE, "synthetic": COURSE}
