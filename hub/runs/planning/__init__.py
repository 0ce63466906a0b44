"""How runs come about: checked beforehand, cut into slices, steered, scheduled and described."""
