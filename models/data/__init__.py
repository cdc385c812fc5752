"""The one reader of labelled images, used for training, case stores and evaluations.

``models.dataset.read_dataset`` is the way in. Here are its parts: ``folders`` (a folder per class),
``tables`` (csv and its relatives), ``annotations`` (COCO, Label Studio), ``files`` (what is an image and what
a mask), ``labels`` (spelling, several labels in one text) and ``rows`` (what all of them come down to).
"""
