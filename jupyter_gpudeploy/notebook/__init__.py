"""What a person sees and types: the magics, the displays, the completion. Only this floor may import IPython."""
