"""Fine-tuning of MedDr-class checkpoints: LoRA on the language model, on conversation files."""
