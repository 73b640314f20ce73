"""A small Flask application."""

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/health")
def health():
    return "ok"


@app.post("/sum")
def total():
    return jsonify(sum=sum(request.get_json()["numbers"]))
