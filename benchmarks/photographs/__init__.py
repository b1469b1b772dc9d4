"""Crops of photographs: natural colour images where no data set can be downloaded."""
