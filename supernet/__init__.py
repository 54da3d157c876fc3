"""Weight-sharing BERT encoders: the architecture vocabulary, the supernet, and how they learn.

Kept free of imports, so that ``supernet.architecture`` loads on a machine without torch.
"""
