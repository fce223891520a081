"""Functions that bring their own rules: custom_jvp, custom_vjp and custom_vmap."""
