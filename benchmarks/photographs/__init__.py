"""Crops of photographs: colour images of natural statistics, where no data set can be fetched."""
