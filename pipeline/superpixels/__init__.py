"""Superpixels by SLIC, compiled when first used; a core divides a photograph of 640×480 in some 15 ms."""
