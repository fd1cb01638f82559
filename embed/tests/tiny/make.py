# Tiny random models of the other families, with the vectors transformers gives: fixtures of embed/tests.
import json, os, sys, torch
from safetensors.torch import save_file
from transformers import RobertaConfig, RobertaModel, DistilBertConfig, DistilBertModel, MPNetConfig, MPNetModel, BertConfig, BertModel
out = sys.argv[1]
words = "the river runs cold and deep under old stone bridge while lamps burn low in town ##s ##ing ##ed a b c d e f g h i j k l m n o p q r s t u v w x y z".split()
common = dict(vocab_size=64, max_position_embeddings=48, pad_token_id=1)
deep = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40)
models = {
    "bert": (BertModel, BertConfig(**common, **deep, hidden_act="gelu_new"), dict(pooling_mode_max_tokens=True)),
    "roberta": (RobertaModel, RobertaConfig(**common, **deep, type_vocab_size=1), dict(pooling_mode_cls_token=True)),
    "distilbert": (DistilBertModel, DistilBertConfig(vocab_size=64, max_position_embeddings=48, dim=24, n_layers=2, n_heads=3, hidden_dim=40), dict(pooling_mode_mean_tokens=True)),
    "mpnet": (MPNetModel, MPNetConfig(**common, **deep), dict(pooling_mode_mean_tokens=True)),
}
vocab = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>"] + words)}
texts = ["the river", "old stone bridges burning low", "x", "lamps in town and the river runs cold and deep under a bridge while lamps burn low in old town z y x w v u t s r q p o n m"]
enc = [[0, 4, 5, 2]]
def ids(text):
    r = [0]
    for w in text.split():
        s = 0
        while s < len(w):
            for e in range(len(w), s, -1):
                p = ("##" if s else "") + w[s:e]
                if p in vocab: r.append(vocab[p]); break
            else: raise SystemExit(w)
            s = e
    return (r[:45] + [2])
tok = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "decoder": None,
  "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
  "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]},
  "model": {"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}}
golden = {}
for name, (cls, cfg, pool) in models.items():
    torch.manual_seed(7); m = cls(cfg).eval().float()
    with torch.no_grad():
        for p in m.parameters(): p.normal_(0, 0.3) if p.dim() > 1 else p.add_(torch.randn_like(p) * 0.1)
    d = f"{out}/{name}"; os.makedirs(d + "/1_Pooling", exist_ok=True)
    st = {k: v.half().contiguous() for k, v in m.state_dict().items() if not k.startswith("pooler") and "position_ids" not in k}
    m.load_state_dict({k: v.float() for k, v in st.items()}, strict=False)
    if name == "roberta": st = {"roberta." + k: v for k, v in st.items()}
    save_file(st, d + "/model.safetensors", metadata={"format": "pt"})
    c = cfg.to_dict(); c["architectures"] = [cls.__name__]
    keep = {"model_type", "architectures", "hidden_size", "dim", "n_layers", "n_heads", "hidden_dim", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "activation", "layer_norm_eps", "max_position_embeddings", "pad_token_id", "vocab_size"}
    json.dump({k: v for k, v in c.items() if k in keep}, open(d + "/config.json", "w"), indent=1)
    json.dump(tok, open(d + "/tokenizer.json", "w"))
    json.dump(pool, open(d + "/1_Pooling/config.json", "w"))
    json.dump([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}, {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}], open(d + "/modules.json", "w"))
    rows = []
    for t in texts:
        i = torch.tensor([ids(t)])
        with torch.no_grad(): h = m(input_ids=i, attention_mask=torch.ones_like(i)).last_hidden_state[0]
        v = h[0] if "pooling_mode_cls_token" in pool else h.max(0).values if "pooling_mode_max_tokens" in pool else h.mean(0)
        rows.append([round(x, 7) for x in v.tolist()])
    golden[name] = rows
json.dump({"texts": texts, "vectors": golden}, open(out + "/expected.json", "w"))
