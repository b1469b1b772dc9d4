"""Orthonormal bases of image space, whose components PMAE masks."""

from pmae.basis.basis import Basis

__all__ = ["Basis"]
