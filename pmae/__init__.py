"""PMAE: pretraining vision models by masking principal components instead of patches.

The science is Bizeul et al., "From Pixels to Components: Eigenvector Masking for Visual
Representation Learning" (arXiv 2502.06314); the baseline is He et al., "Masked Autoencoders Are
Scalable Vision Learners" (arXiv 2111.06377).

Importing this package imports no torch; the submodules that need it import it themselves.
"""

__version__ = "0.1.0"
