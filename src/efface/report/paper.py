"""The published figures (arXiv 2410.02760, tables 1 and 4), to stand beside one's own."""

#: model, method, WMDP-bio, WMDP-cyber, MMLU, MT-Bench, R-PPL; accuracies in per cent
WMDP = (
    ("Zephyr-7B", "original", 64.4, 44.3, 58.5, 7.3, 6.0),
    ("Zephyr-7B", "RMU", 30.5, 27.3, 57.5, 7.2, 24.8),
    ("Zephyr-7B", "RepNoise", 29.7, 37.7, 53.3, 6.6, 25.0),
    ("Zephyr-7B", "ELM", 29.7, 27.2, 56.6, 7.1, 10.9),
    ("Mistral-7B", "original", 67.6, 44.3, 59.7, 3.2, 10.5),
    ("Mistral-7B", "RMU", 33.5, 28.7, 27.1, 1.0, 29.9),
    ("Mistral-7B", "RepNoise", 35.3, 39.6, 55.0, 2.1, 26.7),
    ("Mistral-7B", "ELM", 28.7, 26.4, 55.4, 3.7, 15.3),
    ("Llama3-8B", "original", 71.2, 45.3, 62.1, 5.6, 9.1),
    ("Llama3-8B", "RMU", 49.4, 37.0, 40.1, 3.9, 4.1),
    ("Llama3-8B", "RepNoise", 54.7, 43.6, 54.2, 5.5, 4.9),
    ("Llama3-8B", "ELM", 33.3, 26.6, 57.2, 4.8, 4.5),
    ("Llama3-8B-Instruct", "original", 71.3, 46.7, 63.7, 7.8, 3.6),
    ("Llama3-8B-Instruct", "RMU", 46.2, 31.9, 56.5, 7.4, 3.0),
    ("Llama3-8B-Instruct", "RepNoise", 59.9, 44.1, 60.1, 6.7, 3.5),
    ("Llama3-8B-Instruct", "ELM", 32.2, 27.2, 61.6, 7.7, 7.4),
    ("Qwen2.5-32B", "original", 82.7, 61.8, 80.8, 8.1, 3.2),
    ("Qwen2.5-32B", "ELM", 33.1, 27.1, 78.4, 7.9, 4.8),
    ("Llama3-70B", "original", 82.4, 54.8, 77.7, 7.6, 2.8),
    ("Llama3-70B", "ELM", 33.7, 28.2, 75.2, 7.2, 4.8),
)
#: method, HP-MCQ, MMLU, R-PPL on Llama-2-7B-chat
HARRY_POTTER = (
    ("original", 66.4, 47.0, 3.6),
    ("RMU", 51.0, 44.2, 3.7),
    ("WHP", 58.6, 43.1, 3.4),
    ("ELM", 38.3, 45.3, 3.4),
)
