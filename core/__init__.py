"""What Berth does, knowing no HTTP, no Gradio and no torch."""
