"""Networks: how they are built, their pretrained weights, and the files they are kept in. Knows nothing of how they are
trained or what their maps are used for.
"""
