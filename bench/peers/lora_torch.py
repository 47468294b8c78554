"""LoRA r=16 on q, k, v, o with PyTorch + PEFT: prints tokens a second of the steps after the first."""

import argparse
import json
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--ids", required=True, help="JSON: a list of sequences of equal length")
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--steps", type=int, default=6)
parser.add_argument("--threads", type=int, default=2)
arguments = parser.parse_args()

torch.set_num_threads(arguments.threads)
ids = torch.tensor(json.load(open(arguments.ids)))
model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"))
model.train()
optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=2e-4)
seconds = []
for step in range(arguments.steps):
    start = time.monotonic()
    batch = ids[step * arguments.batch : (step + 1) * arguments.batch]
    loss = model(input_ids=batch, labels=batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    seconds.append(time.monotonic() - start)
tokens = arguments.batch * ids.shape[1]
print(json.dumps({"tokensPerSecond": tokens * (len(seconds) - 1) / sum(seconds[1:]), "loss": loss.item()}))
