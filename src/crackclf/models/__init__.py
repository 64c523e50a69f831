"""Augmentation, preprocessing, a frozen base and a softmax head; saved and loaded."""
