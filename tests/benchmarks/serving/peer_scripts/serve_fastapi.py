"""FastAPI as one writes it by hand: a process a core, a session in each, no batching."""

import uvicorn
from classifier import PORT, WORKERS, Classifier
from fastapi import FastAPI
from pydantic import BaseModel


class Asked(BaseModel):
    inputs: list[str]


app = FastAPI()
classifier = Classifier()


@app.post("/predict")
async def predict(asked: Asked):
    return {"predictions": classifier(asked.inputs)}


if __name__ == "__main__":
    uvicorn.run("serve_fastapi:app", host="127.0.0.1", port=PORT, workers=WORKERS, access_log=False)
