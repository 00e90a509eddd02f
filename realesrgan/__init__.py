"""Real-ESRGAN for the graphics card that people own: DirectML, then CUDA, then the CPU."""
