"""Past one machine: processes that train together through torch.distributed, and Ray, which starts them."""
