"""What methods are made of: draws, and pure functions of tensors that use them."""
