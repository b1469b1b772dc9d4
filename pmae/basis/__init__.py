"""Orthonormal bases of image space, whose components PMAE masks."""
