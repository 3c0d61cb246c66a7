"""The ground floor: arrays, devices, moments, quantiles, seeds and labels."""
