"""What torchvision says of a small vision transformer: logits for a fixed input.

    python3 record_vit.py        # writes vit_logits.txt

Made with Debian's python3-torchvision 0.14.1. The test reads the file and needs no Python. Weights
are those of `model.init = "by-name"` under the names of ViTForImageClassification, brought to
torchvision's: queries, keys and values are rows of one matrix there. Everything in float64.
"""
import numpy
import torch
import torchvision

from record_torchvision import by_name, image

HIDDEN, LAYERS = 64, 2
BLOCK = {
    "layernorm_before": "ln_1",
    "attention.output.dense": "self_attention.out_proj",
    "layernorm_after": "ln_2",
    "intermediate.dense": "mlp.0",
    "output.dense": "mlp.3",
}
OTHERS = {
    "vit.embeddings.cls_token": "class_token",
    "vit.embeddings.position_embeddings": "encoder.pos_embedding",
    "vit.embeddings.patch_embeddings.projection.weight": "conv_proj.weight",
    "vit.embeddings.patch_embeddings.projection.bias": "conv_proj.bias",
    "vit.layernorm.weight": "encoder.ln.weight",
    "vit.layernorm.bias": "encoder.ln.bias",
    "classifier.weight": "heads.head.weight",
    "classifier.bias": "heads.head.bias",
}


def weights(net):
    state = net.state_dict()
    for ours, theirs in OTHERS.items():
        state[theirs] = by_name(ours, state[theirs].shape)
    for i in range(LAYERS):
        a, b = f"vit.encoder.layer.{i}.", f"encoder.layers.encoder_layer_{i}."
        for kind, shape in (("weight", (HIDDEN, HIDDEN)), ("bias", (HIDDEN,))):
            parts = [by_name(f"{a}attention.attention.{part}.{kind}", shape)
                     for part in ("query", "key", "value")]
            state[f"{b}self_attention.in_proj_{kind}"] = torch.cat(parts)
            for ours, theirs in BLOCK.items():
                name = f"{b}{theirs}.{kind}"
                state[name] = by_name(f"{a}{ours}.{kind}", state[name].shape)
    net.load_state_dict(state)


numpy.seterr(over="ignore")
if __name__ == "__main__":
    net = torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=LAYERS, num_heads=4, hidden_dim=HIDDEN,
        mlp_dim=128, num_classes=10).double().eval()
    weights(net)
    with torch.no_grad():
        logits = net(image(2, 64)).flatten().tolist()
    with open("vit_logits.txt", "w") as out:
        out.write(" ".join(map(repr, logits)) + "\n")
