// A model with every KV head of another one several times, which computes the same: node
// repeat_heads.mjs FROM TO TIMES. For tests that want more KV heads than the demo has.
import { cpSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';

const [from, to, times] = [process.argv[2], process.argv[3], Number(process.argv[4])];
cpSync(from, to, { recursive: true });
const config = JSON.parse(readFileSync(`${to}/config.json`));
const heads = config.num_key_value_heads;
config.num_key_value_heads = heads * times;
writeFileSync(`${to}/config.json`, JSON.stringify(config));

// Each head's rows of W_k or W_v, [heads * head_dim][hidden_size].
function repeat(data) {
    const size = data.length / heads;
    const parts = [];
    for (let h = 0; h < heads; h++) {
        for (let i = 0; i < times; i++) {
            parts.push(data.subarray(h * size, (h + 1) * size));
        }
    }
    return Buffer.concat(parts);
}

for (const name of readdirSync(to).filter((n) => n.endsWith('.safetensors'))) {
    const file = readFileSync(`${to}/${name}`);
    const start = 8 + Number(file.readBigUInt64LE());
    const header = JSON.parse(file.toString('utf8', 8, start));
    const parts = [];
    let at = 0;
    const tensors = Object.entries(header).filter(([key]) => key !== '__metadata__');
    for (const [key, t] of tensors.sort((a, b) => a[1].data_offsets[0] - b[1].data_offsets[0])) {
        let data = file.subarray(start + t.data_offsets[0], start + t.data_offsets[1]);
        if (/\.[kv]_proj\.weight$/.test(key)) {
            data = repeat(data);
            t.shape[0] *= times;
        }
        t.data_offsets = [at, (at += data.length)];
        parts.push(data);
    }
    const text = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(`${to}/${name}`, Buffer.concat([length, text, ...parts]));
}
